"""Needle videos: a seeded world of scenes and cards, drawn over real footage, and questions about it.

write_script -> Script -> Renderer.frame -> pixels
                      \\-> ask_all       -> Questions with answers and gold spans
"""
