"""`python -m t2g_ray.cli`: the command of an interpreter, where no script is installed."""

from t2g_ray.cli.main import main

if __name__ == "__main__":
    main()
