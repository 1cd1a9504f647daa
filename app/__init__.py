"""The web application: service, studio, listening pages."""
