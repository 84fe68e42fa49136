"""What the command line says."""

from partialsym.cli.main import main


def refused(capsys, *args):
    """The one-line message of a command that fails."""
    assert main([str(arg) for arg in args]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("partialsym: ")
    assert err.count("\n") == 1
    return err
