// nextflow run pellucid.nf --bids /data --out /derivatives
// A participant that fails is tried once more, then left, and the others go on; --resume keeps what is whole.
params.bids = null
params.out = null

process participant {
    cpus 4
    memory '8 GB'
    errorStrategy { task.attempt < 2 ? 'retry' : 'ignore' }

    input:
    val subject

    output:
    val subject

    script:
    """
    pellucid bids '${params.bids}' '${params.out}' participant --participant-label ${subject} \\
        --omp-nthreads ${task.cpus} --resume --skip-bids-validation
    """
}

process group {
    input:
    val subjects

    script:
    """
    pellucid bids '${params.bids}' '${params.out}' group
    """
}

workflow {
    subjects = Channel.fromPath("${params.bids}/sub-*", type: 'dir').map { it.name }
    group(participant(subjects).collect())
}
