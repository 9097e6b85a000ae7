"""The mathematics: data, model, tape, problem, optimiser, sampler."""
