"""Why a model forgets: the measures of arXiv 2601.18699 (v1), at every stage of a chain.

``probes``       fixed examples of every set, and one pass over them that all measures share
``watching``     what is read off the model in that pass; ``routing``: which experts tokens go to
``gradients``    interference: cosines of the gradients of tasks at the same weights
``drift``        similarity of representations: linear CKA, rotation of principal subspaces
``disruption``   heads whose attention or output changed, shift of the load of experts
``curvature``    eigenvalue and trace of the Hessian of a task's loss, and a slice through that loss
``landscape``    those, for the first task of a chain as later tasks are learnt
``comparison``   all stages put together: forgetting beside what may predict it
``summary``      one number per chain, method beside method
``tables``       words the tables share
``claims``       the paper's numbers beside this run's
``sentences``    what the tables say, in words

The paper's own text does not define its measures; docs/mechanisms.md says what is computed here instead.
"""
