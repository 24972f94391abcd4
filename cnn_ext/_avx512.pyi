from cnn_ext._baseline import *  # noqa: F403
