"""Query-level routing, as a baseline: each question goes as a whole to the SLM or to the LLM."""

QUERY_VERSION = 1  # features, scorers, their training, and which model answers
QUERY_ROUTERS = ("query_sw", "query_knn", "query_linear", "query_mlp", "query_mf")
