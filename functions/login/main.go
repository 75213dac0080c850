// Command login is the Lambda function behind POST /admin/login.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Login, wire.Mails, wire.Passwords, wire.Tokens)) }
