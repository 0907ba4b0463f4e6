"""The files that bring the settings back after a reboot."""

SYSCTL = "etc/sysctl.d/90-encke-tuning.conf"
TMPFILES = "etc/tmpfiles.d/encke-tuning.conf"
UNIT = "etc/systemd/system/encke.service.d/90-encke-tuning.conf"
HEAD = "# Written by encke's tuning/apply; tuning/revert takes it away.\n"


def texts(changes):
    """The files for these changes, by their path below the root."""
    lines = {SYSCTL: [], TMPFILES: [], UNIT: []}
    for change in changes:
        name, value = change["name"], change["written"]
        if name.startswith("unit."):
            lines[UNIT].append(f"{name.split('.', 1)[1]}={value}")
        elif name.startswith("/"):
            lines[TMPFILES].append(f"w {name} - - - - {value}")
        else:
            lines[SYSCTL].append(f"{name} = {value}")
    heads = {UNIT: HEAD + "[Service]\n"}
    return {
        path: heads.get(path, HEAD) + "\n".join(found) + "\n"
        for path, found in lines.items()
        if found
    }
