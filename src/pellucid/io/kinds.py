"""What a file is that is not what its name says: the usual mistakes, by their first bytes."""

FIX = "Is the name's ending right?"
_DICOM_AT = 128
"""DICOM files begin with that many bytes of anything."""

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip inside of gzip", "Unpack it once (gunzip)."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch its content first: git lfs pull."),
    (b"/annex/objects", "a pointer of git-annex", "Fetch its content first: datalad get, git annex get."),
    (b"../.git/annex", "a pointer of git-annex", "Fetch its content first: datalad get, git annex get."),
    (b"NRRD", "an NRRD file", "Call it .nrrd."),
    (b"\x00\x00\x00\x01", "an MGH file", "Call it .mgh, or .mgz if it is compressed."),
    (b"PK\x03\x04", "a ZIP archive", "Unpack it first."),
    (b"\x89HDF", "an HDF5 file (MINC 2?)", "Convert it to NIfTI first (mnc2nii)."),
    (b"CDF", "a netCDF file (MINC 1?)", "Convert it to NIfTI first (mnc2nii)."),
    (b"<", "a web page or XML", "Download the file itself."),
    (b"{", "JSON", FIX),
)
DICOM_FIX = "Convert its folder first: dcm2niix -z y -o OUT FOLDER."


def is_dicom(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of DICOM."""
    return head[_DICOM_AT : _DICOM_AT + 4] == b"DICM"


def other_kind(head: bytes) -> tuple[str, str]:
    """Say what a file is that cannot be read as its name says.

    Args:
        head: Its first bytes, unpacked if it was gzip; 540 or as many as there are.

    Returns:
        Words to follow "got", and what to do.

    Example:
        >>> other_kind(b"NRRD0004")
        ('an NRRD file', 'Call it .nrrd.')
    """
    if is_dicom(head):
        return "a DICOM file", DICOM_FIX
    if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2"):
        return "a NIfTI file", "Call it .nii, or .nii.gz if it is compressed."
    if len(head) >= 348 and 348 in (int.from_bytes(head[:4], order) for order in ("little", "big")):
        got = "an Analyze 7.5 header, which has no orientation"
        return got, "Convert it to NIfTI from the original."
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    for magic, words, fix in _STARTS:
        if head.startswith(magic) or (magic[0] > 32 and start.startswith(magic)):
            return words, fix
    return "a file of another kind", FIX
