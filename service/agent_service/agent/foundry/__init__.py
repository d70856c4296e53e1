"""Microsoft Foundry: the only code that depends on its API and on Azure's credentials."""
