"""Drawings that pages and reports share: the time line of an answer, thumbnails, colours, figures in words."""
