"""Write the generated files of the repository: CRD, chart schemas, references, dashboards, plain manifests."""
