"""GPU memory of training, per freeze configuration: measured on a GPU, predicted without one."""
