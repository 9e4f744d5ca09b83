"""What a model's scores mean, learnt from pictures with captions: a fit of `search.relevance`, and its figures."""
