"""What everything stands on: files, jobs, reruns and errors. Imports nothing of ours.

``artifacts``    files that appear complete or not at all; ``provenance``: the record next to a result
``job``          what every job has in common; ``steps``: files of scripts that serve many rules
``digest``       digests of code, so that a result is made again when the code that makes it has changed
``recovery``     what killed runs leave behind; ``integrity``: whether results are still what was written
``devices``, ``processes``, ``computer``   free GPUs, jobs in several processes, this computer
``run``          what the rules tell the registries of figures and analyses
``fields``       types of configuration values; ``names``: words that configuration, tables and figures share
``errors``, ``progress``, ``stopwatch``, ``hub_access``
"""
