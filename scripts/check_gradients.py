from jaxnn.commands import check, cli

if __name__ == "__main__":
    cli.run(check.main)
