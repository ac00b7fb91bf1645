"""The Gradio app. No other package of i4vgen imports Gradio."""
