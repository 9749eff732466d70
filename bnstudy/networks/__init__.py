"""What is trained: LeNet, its normalization layers and its pooling."""
