from jaxnn.commands import cli, evaluate

if __name__ == "__main__":
    cli.run(evaluate.main)
