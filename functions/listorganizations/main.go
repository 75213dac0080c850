// Command listorganizations is the Lambda function behind GET /operator/organizations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.ListOrganizations)) }
