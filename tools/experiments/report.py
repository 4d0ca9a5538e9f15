"""Write a report of the results, with tables and figures: python report.py [options]."""

import sys

if __name__ == '__main__':
    try:
        from reporting import main
    except ImportError as problem:
        sys.exit(f'error: {problem}; activate the environment that has it, or run "make setup"')
    main()
