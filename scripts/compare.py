from jaxnn.commands import cli, compare

if __name__ == "__main__":
    cli.run(compare.main)
