// Command addorganization is the Lambda function behind POST /admin/organizations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.AddOrganization, wire.SignUps)) }
