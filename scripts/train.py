from jaxnn.commands import cli, train

if __name__ == "__main__":
    cli.run(train.main)
