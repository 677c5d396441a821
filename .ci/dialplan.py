"""Lint a dialplan: `python .ci/dialplan.py asterisk-conf/extensions.conf`. Exit code 1 when anything is reported.

asterisklint's own tables end with Asterisk 13 and leave out func_hangupcause; what our dialplan uses beyond them
is named here, so that a misspelt application or function is still found.
"""

import os
import sys
from importlib import import_module

APPLICATIONS = ("HangupCauseClear", "MSet")
FUNCTIONS = ("CDR_PROP", "HANGUPCAUSE", "HANGUPCAUSE_KEYS")

# What it includes, [globals] among it, is generated for each machine; [general] is the operator's.
os.environ["ALINT_IGNORE"] = "H_DP_GENERAL_MISPLACED,H_DP_GLOBALS_MISPLACED,W_PP_INCLUDE_MISSING"


def lint(dialplan: str) -> int:
    application, varfun = import_module("asterisklint.application"), import_module("asterisklint.varfun")
    app_base = import_module("asterisklint.app.base").AppBase
    func_base = import_module("asterisklint.func.base").FuncBase
    for name in APPLICATIONS:
        application.AppLoader().register(type(name, (app_base,), {})())
    for name in FUNCTIONS:
        varfun.FuncLoader().register(type(name, (func_base,), {})())
    check = import_module("asterisklint.main").load_command("dialplan-check")
    return check.main([dialplan], os.environ) or 0


if __name__ == "__main__":
    sys.exit(lint(*sys.argv[1:]))
