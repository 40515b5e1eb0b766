"""From decoded frames to what a tower sees."""
