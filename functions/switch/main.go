// Command switch is the Lambda function behind POST /admin/switch.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Switch, wire.Tokens)) }
