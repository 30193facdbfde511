"""What loggers log: scalars, histograms, gradients and parameters."""
