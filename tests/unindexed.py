"""Editing run files of simulated archives."""

from astropy.io import fits


def run_files(archive):
    return sorted((archive / "data").iterdir())


def edit(path, *hdus, **keywords):
    """Set keywords of the EVENTS header, or of other headers; None takes one away."""
    with fits.open(path, mode="update") as hdulist:
        for header in [hdulist[hdu].header for hdu in hdus or ["EVENTS"]]:
            for key, value in keywords.items():
                header.remove(key, ignore_missing=True)
                if value is not None:
                    header[key] = value


def strip_responses(path, target=None):
    """Take the responses out of a run file, and put them into another file."""
    with fits.open(path) as hdulist:
        kept, rest = fits.HDUList(hdulist[:3]), fits.HDUList([hdulist[0], *hdulist[3:]])
        if target is not None:
            rest.writeto(target)
        kept.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
