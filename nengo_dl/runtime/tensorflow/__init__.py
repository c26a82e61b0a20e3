"""The TensorFlow executor: the loop over time as one compiled program, with gradients.

Everything that imports TensorFlow or Keras in the runtime lies in this folder.
"""
