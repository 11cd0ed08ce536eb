from jaxnn.commands import cli, predict

if __name__ == "__main__":
    cli.run(predict.main)
