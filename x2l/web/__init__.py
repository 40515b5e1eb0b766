"""`x2l web`: a page in the browser.

visitor -> Session (a video, its indices, a conversation) -> panels (HTML) -> page (Gradio). Only page.py and
serve.py know Gradio.
"""
