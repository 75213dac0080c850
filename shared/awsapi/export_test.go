package awsapi

var Endpoint = Client.endpoint
