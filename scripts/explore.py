from jaxnn.commands import cli, explore

if __name__ == "__main__":
    cli.run(explore.main)
