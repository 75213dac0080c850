// Command verify is the Lambda function behind POST /admin/verify.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Verify)) }
