"""The listening study's pages: what raters and the owner see. No gradio, no torch."""
