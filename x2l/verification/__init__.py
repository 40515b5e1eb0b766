"""Whether x2l is right on a checkpoint: checks, each with a verdict, and figures beside their estimates."""
