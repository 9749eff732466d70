"""LeNet as other tools train it, each a process that answers questions about its speed."""
