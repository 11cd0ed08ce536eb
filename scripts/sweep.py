from jaxnn.commands import cli, sweep

if __name__ == "__main__":
    cli.run(sweep.main)
