"""BERT as a text tower, a masked post-norm encoder with open_clip's projection; also RoBERTa and XLM-RoBERTa."""
