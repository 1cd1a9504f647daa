"""The web application: service, studio, listening pages."""

import os

# Gradio reads this when it is first imported, so it stands here, before any module of the app.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
