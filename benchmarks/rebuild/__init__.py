"""Corpus models that packages ship as weights alone, rebuilt as ONNX without their training frameworks."""
