"""Starting and stopping the platform, and the walk-through."""
