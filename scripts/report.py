from jaxnn.commands import cli, report

if __name__ == "__main__":
    cli.run(report.main)
