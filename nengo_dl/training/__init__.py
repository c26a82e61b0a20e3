"""Training: a network as a Keras layer, the model around it, and what both are given.

It runs, trains and evaluates a compiled network (`nengo_dl.runtime`) by the methods of
``keras.Model``. `nengo_dl.Simulator` is its user, and nothing in here knows of that.
Modules that import Keras and TensorFlow, which takes seconds, are imported when they are
first needed: ``tensor_graph``, ``model``, ``keras_side``, ``streams``, ``feed`` and
``gradients``.
"""
