// Command showorganization is the Lambda function behind GET /operator/organizations/{id}.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.ShowOrganization)) }
