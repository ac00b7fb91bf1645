"""Many runs: from a file of prompts to a folder of finished runs, a table and a page to look at them.

prompts.py     what the file asks for, line by line
tasks.py       the runs that follow from it, each with a name that says whether it is there already
executor.py    makes the runs, one after the other
cluster.py     makes them on a cluster, with Ray; worker.py is what each of its processes does
summary.py     summary.csv
page.py        index.html
vbench.py      the videos once more, named as VBench wants them
command.py     the command line
"""
