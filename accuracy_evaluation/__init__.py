"""Prediction on images, WIDER FACE and FDDB result files, AP and ROC, plots, peers."""
