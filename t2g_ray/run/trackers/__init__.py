"""Files of a run -> Weights & Biases, MLflow, trackio and TensorBoard."""
