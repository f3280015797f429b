"""From facts and policy to a plan, and a saved plan made again."""
