"""What several towers are made of: fields of descriptions, layers in torch, OpenVINO and numpy, rules for names."""
