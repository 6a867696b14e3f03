"""The ColPali family: multi-vectors of pages and questions, MaxSim, pooling."""
