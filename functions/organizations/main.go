// Command organizations is the Lambda function behind GET /admin/organizations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Organizations)) }
