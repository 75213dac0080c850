// Command logout is the Lambda function behind POST /admin/logout.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Logout)) }
